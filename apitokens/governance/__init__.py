"""Use-cases that change who may do what: they touch members, roles, permissions and tokens together."""
