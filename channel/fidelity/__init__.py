"""Measures the packet modem against the block error law: whether packets fail where the law says so."""
