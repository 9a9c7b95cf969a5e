"""The Grafana boards, described in a line or two a panel; `make boards` writes their JSON."""
