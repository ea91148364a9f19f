"""The network's twin: any repository of sites as network namespaces on one machine."""
