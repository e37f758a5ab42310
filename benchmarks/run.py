"""The benchmarks: everything in one machine and one run, as ratios.

Every case is a process of its own; rounds are interleaved, and a ratio is taken within its round. The sink is made
anew before each case, and its count and sums are compared afterwards: a case that lost a row fails. Seconds are those
of the work, without imports and without the start of the Prefect server. A case during which others use more than a
quarter of a core is measured again, at most twice.

    python benchmarks/run.py [STUDY …] [--scale 1] [--rounds 3]

writes the tables into docs/performance.md and the picture to docs/performance.svg; needs the extra `bench`. The tables
of other studies stay, so studies may be run one by one.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from data import HOME, WORKS

STUDIES = (
    "postgresql",
    "lineitem",
    "slow",
    "sqlite",
    "protection",
    "protection_long",
    "isolation",
    "growth",
    "resume",
)


def child(spec):
    """In the child: do the work and print what it took."""
    import ours
    import rivals
    from measure import timed

    import prefect_batch.flows.process_records  # noqa: F401 - not part of the time

    functions = {**vars(rivals), **ours.CASES}
    setting = rivals.Setting(spec["url"], WORKS[spec["work"]], spec["table"], spec["processes"])
    setting.engine().connect().close()
    setting.engine().dispose()
    returned = []
    seconds, cpu, peak = timed(lambda: returned.append(functions[spec["function"]](setting, **spec["arguments"])))
    with setting.engine().connect() as connection:
        sums = [
            float(value) for value in connection.exec_driver_sql(setting.work.check.format(sink=spec["sink"])).one()
        ]
    more = returned[0] if isinstance(returned[0], dict) else {}
    print("RESULT", json.dumps({"seconds": seconds, "client_cpu": cpu, "peak_mb": peak, "sums": sums, "more": more}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", default=list(STUDIES), help=", ".join(STUDIES))
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="TPC-H's scale factor, of which each study takes its share",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(json.loads(arguments.child))
        return
    from measure import prefect_server
    from report import write_report
    from studies import run_growth, run_resume, run_study

    HOME.mkdir(parents=True, exist_ok=True)
    with prefect_server():
        for study in arguments.studies:
            if study == "growth":
                found = run_growth(arguments.scale / 2, arguments.rounds)
            elif study == "resume":
                found = run_resume(arguments.scale / 5, arguments.rounds)
            else:
                found = run_study(study, arguments.scale, arguments.rounds)
            text = write_report({study: found})
    print(text)


if __name__ == "__main__":
    main()
