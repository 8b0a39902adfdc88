"""One machine runs everything: a private database and broker, web, worker, beat, mail catcher, gateway simulator.

Standard library only, and no Django: the supervisor starts processes, waits for them and stops them.
"""
