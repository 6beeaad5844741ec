"""What the broker tells of itself and of who reads from it: lag, loss and balance; metrics; and the HTTP port.

Role: read the counters and states of the other rooms, in their own words. Nothing here is on a hot path, and nothing
there knows of it. Without `odradek.http.listen` metrics and HTTP are not even imported, and lag is when it is first
looked at, some seconds after a start.
"""
