"""What people read: tables, pages and exports of stored results."""
