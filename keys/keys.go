// Package keys opens private keys, and the key that seals other keys, from
// where an operator keeps them: files, and credentials of systemd.
//
// A file with a secret is opened only if nobody but its owner may read it. What
// is made here is made whole or not at all, and never overwrites anything.
package keys
