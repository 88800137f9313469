"""The page in `page/`, the computations that it needs beyond `Memory`, and `evomem inspect`.

The page is static and sends requests to the service: `evomem.service.inspection` has the endpoints, and
`tree`, `alone`, `similarity` and `preview` compute the results.
"""
