"""The nine laws, one a file: each a function that raises `LawBroken` through the court that it is given."""
