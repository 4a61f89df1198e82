# Written by the build (CMakeLists.txt): whether the extension was built, and if not, why.
NATIVE: bool
REASON: str
