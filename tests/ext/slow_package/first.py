__all__ = ["ONE"]

ONE = 1
