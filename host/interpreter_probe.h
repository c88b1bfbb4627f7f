#pragma once
/*
 * What a Python is asked about itself: run once as `python -I -S -c PROBE`, prints one JSON object.
 * It must run on any Python 3 (older ones are found on machines too, and refused by their version).
 * `libpython` holds candidates, best first: what this very process has mapped (exact where the
 * executable is linked to it), then where sysconfig says that the library is. Whether one exists is
 * looked up anew at each use.
 */
static const char pyi_interpreter_probe_source[] =
    "import sys, os, json, sysconfig as s\n"
    "v = s.get_config_vars()\n"
    "found = []\n"
    "try:\n"
    "    with open('/proc/self/maps') as f:\n"
    "        for line in f:\n"
    "            p = line.rstrip('\\n').split(None, 5)[5:]\n"
    "            if p and os.path.basename(p[0]).startswith('libpython3.'):\n"
    "                found.append(p[0])\n"
    "except OSError:\n"
    "    pass\n"
    "name = v.get('INSTSONAME') or v.get('LDLIBRARY') or ''\n"
    "if '.so' not in name:\n"
    "    name = 'libpython%d.%d%s.so.1.0' % (sys.version_info[0], sys.version_info[1],\n"
    "                                      getattr(sys, 'abiflags', ''))\n"
    "dirs = [v.get('LIBDIR')]\n"
    "if v.get('LIBDIR') and v.get('MULTIARCH'):\n"
    "    dirs.append(os.path.join(v['LIBDIR'], v['MULTIARCH']))\n"
    "dirs.append(os.path.join(sys.base_exec_prefix, 'lib'))\n"
    "if v.get('MULTIARCH'):\n"
    "    dirs.append(os.path.join(sys.base_exec_prefix, 'lib', v['MULTIARCH']))\n"
    "for d in dirs:\n"
    "    if d:\n"
    "        found.append(os.path.join(d, name))\n"
    "seen = []\n"
    "for p in found:\n"
    "    if p not in seen:\n"
    "        seen.append(p)\n"
    "json.dump({\n"
    "    'implementation': sys.implementation.name,\n"
    "    'executable': os.path.realpath(getattr(sys, '_base_executable', None) or "
    "sys.executable),\n"
    "    'version': sys.version.split()[0],\n"
    "    'sys_version': sys.version,\n"
    "    'info': list(sys.version_info[:3]),\n"
    "    'base_prefix': sys.base_prefix,\n"
    "    'platform': s.get_platform(),\n"
    "    'libpython': seen,\n"
    "    'free_threaded': bool(v.get('Py_GIL_DISABLED')),\n"
    "    'debug': hasattr(sys, 'gettotalrefcount'),\n"
    "}, sys.stdout)\n";
