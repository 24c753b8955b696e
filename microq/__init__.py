"""microq: run, feed, watch and break a system around a replicated message queue.

The journey of a message::

    client --POST--> facade --put--> queue (3 members, backups) --receive--> messages-service --> its memory
                       |                                                        |
                       +--POST--> logging-service (one of 3) --> `log` map      +--> `stored` map
    reader --GET---> facade --GET--> one random logging-service + one random messages-service, both combined

A message has one id on the whole way. A client that counts its messages makes the id, as in every measured run; else
the facade makes it. Imports point down only: records and words (`message`, `config`, `fleet`, `errors`, `log`) <
`backends`, `store`, `client`, `trace` < `services` and `supervisor` < `chaos` and `bench` < `terminal`, `report`,
`dashboard` and `workflows` < `cli`.
"""

__version__ = "0.1.0"
