"""What our child serves in the benchmark."""


async def echo(value: object) -> object:
    return value
