"""Cannot be imported."""

import a_package_that_is_missing


def echo(value):
    return a_package_that_is_missing.echo(value)
