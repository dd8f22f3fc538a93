"""A GPU engine on this machine, for development and the demo: RunPod's wire in front, its worker SDK behind.

``python -m infra.local_engine --port 8093`` answers the REST paths of templates and endpoints and the queue of each
endpoint, as the documentation of RunPod words them (``upstreams.runpod`` names the pages). A worker is a process of
the vendor's own SDK (``handler.py --rp_serve_api``), so that a handler really runs; what that server does not tell
(queueing, execution time, time-outs, cancelling) is done here. Everything is forgotten when it ends: whoever made an
endpoint makes it again, which is what deployments do with an engine that lost one.

It runs images that come with the project, nothing else: this is no container runtime.
"""
