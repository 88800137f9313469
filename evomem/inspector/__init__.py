"""What the page in `page/` shows of a memory beyond what `Memory` returns, and `evomem inspect`.

The page is static and asks the service: `evomem.service.inspection` has the endpoints, `tree`,
`alone`, `similarity` and `preview` compute the answers.
"""
