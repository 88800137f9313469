"""evomem on a Ray cluster, or on one machine with Ray: replicas of the service, and bulk work.

Nothing here decides what is stored: leases do (`evomem.open(..., lease=)`).
"""
