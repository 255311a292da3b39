"""Temporary."""


class RunReport: ...
