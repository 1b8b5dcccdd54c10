"""Other libraries' activations and attention, each under the prefix of its package.

A module registers what its package brings where that is installed, and nothing elsewhere; the
package is imported when a forward is first asked whether it can run. Each has a reference of ours,
so that it is judged as anyone's. They carry the tag ``peer``, and are measured only where they are
asked for.
"""
