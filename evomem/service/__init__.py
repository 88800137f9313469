"""How programs in other languages and other processes use evomem."""
