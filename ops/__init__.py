"""What people run Sluice with: rules, boards, Alertmanager, PgBouncer, backups."""
