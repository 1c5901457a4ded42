"""Solutions of the homework in many styles, each with known mistakes, to measure the checker with.

A style (`styles`) is one value for each of many independent choices. Every method is written in
every style (`q_files`, `actor_files`, `rnd_file`), right or with one of the mistakes (`mistakes`).
What the files compute is compared with formulas of its own (`formulas`, `numbers`): a right file
must agree with them, and a mistake must change a loss, a weight or an action, or it is none.
`trials` gives them to the checker and compares its report with the truth.
"""
