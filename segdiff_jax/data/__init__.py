"""Examples: reads them, orders them into batches, crops and augments them."""
