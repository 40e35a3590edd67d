"""Tests of the lossy link."""
