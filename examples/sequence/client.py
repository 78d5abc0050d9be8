"""Send the readings of sensors by turns, each a sequence of its own, and print which stand out."""

import argparse
import itertools
import sys

import numpy as np
import tritonclient.http as triton

READINGS = {
    "boiler": [70.1, 69.8, 70.3, 70.0, 69.9, 83.0, 70.2],
    "freezer": [-18.0, -18.2, -17.9, -18.1, -18.0, -17.8, -18.1],
}
MANY_DEVIATIONS = 4


def ask(client, sensor, reading, *, start, end):
    """The sensor's mean so far, and how many standard deviations the reading is from those before."""
    sent = triton.InferInput("READING", [1, 1], "FP32")
    sent.set_data_from_numpy(np.array([[reading]], dtype=np.float32))
    answer = client.infer("watch_sensor", [sent], sequence_id=sensor, sequence_start=start, sequence_end=end)
    return answer.as_numpy("MEAN").item(), answer.as_numpy("DEVIATIONS").item()


def read_sensors(entries):
    """{name: readings} out of texts such as 'boiler=70.1,69.8'."""
    sensors = {}
    for entry in entries:
        name, equals, numbers = entry.partition("=")
        if not name or not equals:
            raise argparse.ArgumentTypeError(f"expected NAME=NUMBER,NUMBER, got {entry!r}")
        try:
            sensors[name] = [float(number) for number in numbers.split(",")]
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected NAME=NUMBER,NUMBER, got {entry!r}") from None
    return sensors


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sensors", nargs="*", metavar="NAME=READINGS", help="such as boiler=70.1,69.8")
    parser.add_argument("--url", default="localhost:8000", help="HTTP address, default: %(default)s")
    args = parser.parse_args()
    try:
        sensors = read_sensors(args.sensors) or READINGS
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    turns = itertools.zip_longest(*sensors.values())
    status = 0
    with triton.InferenceServerClient(args.url) as client:
        for number, turn in enumerate(turns):
            for (sensor, readings), reading in zip(sensors.items(), turn, strict=True):
                if reading is None:
                    continue
                try:
                    mean, deviations = ask(
                        client, sensor, reading, start=number == 0, end=number + 1 == len(readings)
                    )
                except (OSError, triton.InferenceServerException) as error:
                    print(f"{sensor}: {error}", file=sys.stderr)
                    status = 1
                    continue
                far = "  stands out" if abs(deviations) > MANY_DEVIATIONS else ""
                print(f"{sensor:10} {reading:8.2f}  mean {mean:8.2f}  deviations {deviations:7.2f}{far}")
    return status


if __name__ == "__main__":
    sys.exit(main())
