"""The reference server: `python -m server --help`. A program, never imported by Midsession.

It accepts TCP clients, treats each as its behaviour says (`server/behaviours.py`), and tells what happens twice: in
readable lines on standard output, and, under the harness, as records in an event file (`docs/records.md`).
"""
