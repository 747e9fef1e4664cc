"""Faster inserts and updates: a plan with its risks named, and a proof by measurement."""
