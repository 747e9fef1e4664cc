"""Howdah's part for Django projects."""
