"""What a run looks like to people: a pure model of one run, and its renderings (terminal, HTML, JUnit, Markdown)."""
