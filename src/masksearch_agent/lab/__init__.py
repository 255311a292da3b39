"""Experiments on closed worlds: the tiny model, the quickstart and the ablations; nothing else imports it."""
