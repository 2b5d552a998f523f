"""All verbs of a store on Redis, for one prefix of keys; a store that is called and one that is awaited run these."""

from typing import Final

from fairtouch.stores.redis_calls import Keys
from fairtouch.stores.redis_customers import Customers
from fairtouch.stores.redis_deciding import Deciding
from fairtouch.stores.redis_deferring import Deferring
from fairtouch.stores.redis_ledgers import Ledgers
from fairtouch.stores.redis_names import Names
from fairtouch.stores.redis_pruning import Pruning
from fairtouch.stores.redis_registers import Registers


class Verbs:
    """What is decided, settled, pruned, said and deferred, each in its own room. `apart`: the keys lie on several
    servers.
    """

    def __init__(self, prefix: str, *, apart: bool) -> None:
        keys = Keys(prefix)
        customers = Customers(keys, Names(keys.names))
        self.ledgers: Final = Ledgers(customers)
        self.deciding: Final = Deciding(customers, self.ledgers, apart=apart)
        self.pruning: Final = Pruning(customers)
        self.registers: Final = Registers(customers)
        self.deferring: Final = Deferring(keys)
