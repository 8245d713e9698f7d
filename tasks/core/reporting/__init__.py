"""Reporting on a run: counts, progress, the report, and its forms: terminal table, HTML, markdown, JSON."""
