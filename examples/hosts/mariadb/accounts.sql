-- Run once, on each server, as root. RELOAD is for FLUSH SSL, SLAVE MONITOR to
-- see whether a replica runs; the account may read no table.
CREATE USER rotunda@localhost IDENTIFIED BY 'the line of /etc/rotunda/mariadb.password';
GRANT RELOAD, SLAVE MONITOR ON *.* TO rotunda@localhost;

-- MariaDB asks every client for a certificate and leaves it to the account
-- whether there must be one.
CREATE USER shop@'%' IDENTIFIED BY 'another password' REQUIRE X509;
