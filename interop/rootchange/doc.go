// Package rootchange replaces roots beneath real servers under load: a control
// plane and agents in processes of their own, a Redis with a replica, a
// PostgreSQL with a standby, an nginx, an etcd of three members, and clients that
// count what fails. Its tests look with their own eyes, not the product's.
package rootchange
