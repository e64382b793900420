#!/bin/sh
# Makes the fat binaries of this folder, and expected.json, which is what cuobjdump says of each of them.
# Made with nvcc 13.0 (V13.0.88) and cuobjdump 13.5.37 (PyPI: nvidia-cuda-cuobjdump).
#   NVCC=nvcc CUOBJDUMP=cuobjdump sh make.sh
set -eu
cd "$(dirname "$0")"
nvcc=${NVCC:-nvcc}
cuobjdump=${CUOBJDUMP:-cuobjdump}

compile() { # name, then options of nvcc
  name=$1
  shift
  "$nvcc" -cudart none -Xcompiler -fPIC -shared -DNAME="$name" -o "$name.so" "$@"
  strip --strip-unneeded "$name.so"
}
object() {
  name=$1
  shift
  "$nvcc" -cudart none -Xcompiler -fPIC -c -DNAME="$name" -o "$name.o" kernel.cu "$@"
}

compile both kernel.cu -gencode arch=compute_80,code=sm_80 -gencode arch=compute_80,code=compute_80
compile only_ptx kernel.cu -gencode arch=compute_75,code=compute_75
compile uncompressed kernel.cu -Xfatbin -compress=false -gencode arch=compute_86,code=sm_86 \
  -gencode arch=compute_86,code=compute_86
# Architecture-specific and family-specific code.
compile suffixes kernel.cu -gencode arch=compute_90a,code=sm_90a -gencode arch=compute_100f,code=sm_100f \
  -gencode arch=compute_120,code=sm_120 -gencode arch=compute_103a,code=compute_103a \
  -gencode arch=compute_120f,code=compute_120f
# Relocatable device code with what a device linker would optimise: it is no code that a driver runs.
compile relocatable kernel.cu -rdc=true -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=lto_90
# Two translation units for different architectures: no single list is true of the whole library.
object older -gencode arch=compute_80,code=sm_80
object newer -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90
compile differing older.o newer.o
rm -f older.o newer.o

for file in *.so; do
  echo "$file"
  { "$cuobjdump" --list-elf --list-ptx "$file" || true; } 2>/dev/null
done | python3 -c '
import json, re, sys
expected = {}
for line in sys.stdin:
    match = re.match(r"(ELF|PTX) file +\d+: .*\.sm_(\w+)\.(?:cubin|ptx)$", line)
    if match:
        kind = "sm_" if match[1] == "ELF" else "compute_"
        entries.append(kind + match[2])
    else:
        entries = expected.setdefault(line.strip(), [])
json.dump(expected, sys.stdout, indent=1)
print()
' > expected.json
