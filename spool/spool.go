// Package spool keeps what a server signs while it is cut off from its store,
// until the store has it.
//
// A spool is one file that is only appended to, bound to the installation whose
// server wrote it. A record is there, whole and on the disk, when Append has
// returned; one that a crash cut short is set aside, in a file beside it, when it is
// opened again. One process has it open at a time.
package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Name is what the file is called in its directory.
const Name = "certificates.spool"

// maxRecord bounds a record: what claims to be longer is no record.
const maxRecord = 1 << 20

// Owner is the installation that a spool is of.
type Owner struct {
	TrustDomain string `json:"trustDomain"`
	LogKey      string `json:"logKey"` // of its audit log: no two installations share one
	Epoch       uint64 `json:"epoch"`  // of its store, when the spool was begun
}

// Spool is an open spool.
type Spool struct {
	dir   string
	owner Owner
	file  *os.File
	size  int64 // of what is whole
	count int
	aside string // where what stood behind the last whole record is
	torn  error  // a failed write could not be taken back: nothing more is appended
}

// castagnoli sums records, as ext4, iSCSI and others sum theirs.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Exists says whether a directory holds a spool.
func Exists(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, Name))
	return err == nil
}

// Open opens the spool of a directory, or begins one there, and returns what it
// holds and whose it is. That of another installation is refused.
func Open(dir string, owner Owner) (s *Spool, held [][]byte, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, cantWrite(dir, err)
	}
	s = &Spool{dir: dir, owner: owner}
	s.file, err = os.OpenFile(filepath.Join(dir, Name), os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return s, nil, s.begin()
	case err != nil:
		return nil, nil, cantWrite(dir, err)
	}
	if held, err = s.open(); err != nil {
		s.file.Close()
		return nil, nil, err
	}
	return s, held, nil
}

func (s *Spool) open() (held [][]byte, err error) {
	if err := s.lock(s.file); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(s.file)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "read the spool in %s", s.dir)
	}
	records, whole := parse(content)
	var of Owner
	if len(records) == 0 || json.Unmarshal(records[0], &of) != nil || of.TrustDomain == "" {
		return nil, fault.New(fault.Invalid, "%s is no spool, or its beginning is damaged", s.file.Name()).
			WithRemedy("keep a copy, look at what it is, and move it away")
	}
	if of.TrustDomain != s.owner.TrustDomain || of.LogKey != s.owner.LogKey {
		return nil, fault.New(fault.Conflict, "the spool in %s is of another installation, of trust domain %s: its certificates are recorded in that one's store", s.dir, of.TrustDomain).
			WithRemedy("put it where it came from and start that server; or name another directory in rotunda.yaml (spool.directory)")
	}
	held = records[1:]
	s.owner, s.size, s.count = of, whole, len(held)
	if tail := content[whole:]; len(tail) > 0 {
		if err := s.setAside(tail); err != nil {
			return nil, err
		}
	}
	return held, s.cut()
}

// setAside keeps what stands behind the last whole record, before it is cut off: a
// crash leaves the like, of what was never answered, but so does a disk that lost
// what it had.
func (s *Spool) setAside(tail []byte) error {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return cantWrite(s.dir, err)
	}
	defer root.Close()
	name := fmt.Sprintf("%s.tail-%08x", Name, crc32.Checksum(tail, castagnoli))
	if err := durable.WriteFile(root, name, tail, 0o600, nil); err != nil {
		return cantWrite(s.dir, err)
	}
	s.aside = filepath.Join(s.dir, name)
	return nil
}

func (s *Spool) lock(file *os.File) error {
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fault.Wrap(fault.Conflict, err, "another process has the spool in %s", s.dir).
			WithRemedy("one server has a directory: give each its own in rotunda.yaml (spool.directory)")
	}
	return nil
}

// magic begins the file, so that nothing else is taken for a spool.
const magic = "rotunda spool 1\n"

// parse splits a file into its whole records, and says where they end.
func parse(content []byte) (records [][]byte, whole int64) {
	if !bytes.HasPrefix(content, []byte(magic)) {
		return nil, 0
	}
	at := len(magic)
	for len(content)-at >= 8 {
		length, sum := binary.BigEndian.Uint32(content[at:]), binary.BigEndian.Uint32(content[at+4:])
		if length == 0 || length > maxRecord || int(length) > len(content)-at-8 {
			break
		}
		record := content[at+8 : at+8+int(length)]
		if crc32.Checksum(record, castagnoli) != sum {
			break
		}
		records, at = append(records, record), at+8+int(length)
	}
	return records, int64(at)
}

func frame(out *bytes.Buffer, record []byte) {
	var head [8]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(record)))
	binary.BigEndian.PutUint32(head[4:], crc32.Checksum(record, castagnoli))
	out.Write(head[:])
	out.Write(record)
}

// begin puts an empty spool of the owner in the file's place: the one before it is
// there, or the new one is, whole.
func (s *Spool) begin() error {
	head, err := json.Marshal(s.owner)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	out.WriteString(magic)
	frame(&out, head)
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return cantWrite(s.dir, err)
	}
	defer root.Close()
	if err := durable.WriteFile(root, Name, out.Bytes(), 0o600, nil); err != nil {
		return cantWrite(s.dir, err)
	}
	file, err := root.OpenFile(Name, os.O_RDWR, 0)
	if err != nil {
		return cantWrite(s.dir, err)
	}
	if err := s.lock(file); err != nil {
		file.Close()
		return err
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.size, s.count, s.torn = file, int64(out.Len()), 0, nil
	return nil
}

// cut takes away what stands behind the last whole record.
func (s *Spool) cut() error {
	err := s.file.Truncate(s.size)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return cantWrite(s.dir, err)
	}
	return nil
}

// Append adds records. When it returns without an error they are on the disk; with
// one none of them is in the spool.
func (s *Spool) Append(records ...[]byte) error {
	if s.torn != nil {
		return s.torn
	}
	var out bytes.Buffer
	for _, record := range records {
		if len(record) == 0 || len(record) > maxRecord {
			return fault.New(fault.Internal, "a record of %d bytes in the spool", len(record))
		}
		frame(&out, record)
	}
	if err := s.write(out.Bytes()); err != nil {
		if again := s.cut(); again != nil {
			s.torn = again
		}
		return err
	}
	s.count += len(records)
	return nil
}

func (s *Spool) write(content []byte) error {
	if _, err := s.file.WriteAt(content, s.size); err != nil {
		return cantWrite(s.dir, err)
	}
	if err := s.file.Sync(); err != nil {
		// What of it is on the disk is unknown, and a second fsync would not tell.
		s.torn = fault.Wrap(fault.Unavailable, err, "the spool in %s can't be brought to the disk", s.dir).WithRemedy("look at the disk; then restart this server when the store is back")
		return s.torn
	}
	s.size += int64(len(content))
	return nil
}

// Clear makes the spool an empty one of the owner, once its store has all.
func (s *Spool) Clear(owner Owner) error {
	s.owner = owner
	return s.begin()
}

// Aside is the file that has what stood behind the last whole record when the spool
// was opened; empty: nothing did.
func (s *Spool) Aside() string { return s.aside }

// Records are all that the spool holds, as they are on the disk.
func (s *Spool) Records() ([][]byte, error) {
	content := make([]byte, s.size)
	if _, err := s.file.ReadAt(content, 0); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "read the spool in %s", s.dir)
	}
	records, whole := parse(content)
	if whole != s.size || len(records) != s.count+1 {
		return nil, fault.New(fault.Internal, "the spool in %s has %d whole records, %d were written", s.dir, len(records)-1, s.count).
			WithRemedy("keep a copy of it, and look at its disk")
	}
	return records[1:], nil
}

// Len is how many records the spool holds.
func (s *Spool) Len() int { return s.count }

// Owner is whose the spool is, as its file says.
func (s *Spool) Owner() Owner { return s.owner }

// Close closes the file; what it holds stays.
func (s *Spool) Close() error { return s.file.Close() }

func cantWrite(dir string, err error) error {
	says := fault.New(fault.Unavailable, "the spool in %s can't be written: %s", dir, strings.TrimSpace(fmt.Sprint(err)))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return noRoom{says.WithRemedy("make room on its disk: without it nothing is renewed while the store is away")}
	}
	return says.WithRemedy("let this server's user write there, or name another directory in rotunda.yaml (spool.directory)")
}

// noRoom is of a disk that takes no more.
type noRoom struct{ error }

func (e noRoom) Unwrap() error { return e.error }

// IsFull says whether an error is for want of room, which goes by itself.
func IsFull(err error) bool {
	_, full := errors.AsType[noRoom](err)
	return full
}
