"""What a suite may contain: the schema, its rules, and YAML with line numbers."""

from __future__ import annotations
