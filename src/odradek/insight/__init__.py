"""What the broker tells of itself: metrics, and the HTTP port that they are read at.

Role: read the counters and states of the other rooms, in their own words. Nothing here is on a hot path, and nothing
there knows of it: without `odradek.http.listen` this room is not even imported.
"""
