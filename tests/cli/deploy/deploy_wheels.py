"""Packages without code, for pip to find."""

import zipfile


def write_wheel(folder, name, version, requires=(), files=None, extras=None):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    for extra, required in (extras or {}).items():
        needs += f"Provides-Extra: {extra}\nRequires-Dist: {required}; extra == '{extra}'\n"
    contents = {
        **(files or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{one},,\n" for one in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in {**contents, f"{info}/RECORD": record}.items():
            wheel.writestr(file, content)
    return path
