package fleettest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands between a server and its database, or an agent and its server,
// and lets the network fail as it is told.
type proxy struct {
	address string
	to      string

	mu     sync.Mutex
	delay  time.Duration // of each piece that passes
	silent chan struct{} // closed when what is held passes again; nil: nothing is held
	open   map[net.Conn]bool
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", free(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: listener.Addr().String(), to: to, open: map[net.Conn]bool{}}
	t.Cleanup(func() {
		listener.Close()
		p.heal()
		p.reset()
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.join(conn)
		}
	}()
	return p
}

func (p *proxy) join(near net.Conn) {
	far, err := net.Dial("tcp", p.to)
	if err != nil {
		near.Close()
		return
	}
	p.mu.Lock()
	p.open[near], p.open[far] = true, true
	p.mu.Unlock()
	var group sync.WaitGroup
	group.Go(func() { p.pump(near, far) })
	group.Go(func() { p.pump(far, near) })
	group.Wait()
	p.mu.Lock()
	delete(p.open, near)
	delete(p.open, far)
	p.mu.Unlock()
}

// pump moves bytes one way, as the network is at the moment.
func (p *proxy) pump(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	piece := make([]byte, 32<<10)
	for {
		n, err := from.Read(piece)
		if n > 0 {
			p.mu.Lock()
			delay, silent := p.delay, p.silent
			p.mu.Unlock()
			if silent != nil {
				<-silent
			}
			time.Sleep(delay) // which is what it is for
			if _, err := to.Write(piece[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// hold lets nothing through any more, and says so to nobody.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = make(chan struct{})
}

// heal lets everything through, what was held first.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent != nil {
		close(p.silent)
		p.silent = nil
	}
}

// slow delays each piece.
func (p *proxy) slow(by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = by
}

// reset breaks all connections, and returns how many.
func (p *proxy) reset() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		conn.Close()
	}
	return len(p.open) / 2
}
