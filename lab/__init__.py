"""The lab: any repository of sites as network namespaces on one machine."""
