"""evomem on a Ray cluster, or on one machine with Ray: the service's replicas, and bulk work.

Nothing here decides what is stored: order and ownership are the leases' (`evomem.open(..., lease=)`).
"""
