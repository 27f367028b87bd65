"""HTTP for trusted peers, on the port of Halibut: `connection` is the door."""
