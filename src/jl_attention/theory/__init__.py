"""Laws and bounds: what the theorems say, as functions. No algorithm lives here."""

__all__: list[str] = []
