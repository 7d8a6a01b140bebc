package main

import (
	"context"
	"net"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

const (
	mostStreams = 2000
	// What the kernel holds of a stream in each direction. It would else keep megabytes for a pod
	// that does not read; inside a cluster this much is no brake.
	socketBuffer = 256 << 10
	// What the library holds at most for a pod that does not read.
	windowSize = 2 << 20
	watchEvery = 250 * time.Millisecond
	// A pod that has not read for so long is held to be stuck once memory is short.
	stuckAfter = time.Second
)

// streams are those that are carried now, by whichever connection.
//
// What a pod does not read waits here, up to the window of its stream. Windows of all streams are
// more than a small program may use, and a renter can stop a pod's SSH server at will: so when memory
// is short, streams of pods that do not read are closed, longest first.
type streams struct {
	most  chan struct{}
	limit uint64 // bytes of heap

	lock sync.Mutex
	open map[*podStream]struct{}
}

func newStreams(limit uint64) *streams {
	debug.SetMemoryLimit(int64(limit) + 64<<20) // above the budget, collecting garbage comes first
	return &streams{
		most:  make(chan struct{}, mostStreams),
		limit: limit,
		open:  map[*podStream]struct{}{},
	}
}

// enter takes a place, if there is one; exit gives it back.
func (s *streams) enter() bool {
	select {
	case s.most <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *streams) exit() { <-s.most }

// carry couples both ends until the stream is over, and tells the owner about it.
func (s *streams) carry(instance string, port uint32, made *net.TCPConn, channel gossh.Channel, requests <-chan *gossh.Request) {
	made.SetReadBuffer(socketBuffer)
	made.SetWriteBuffer(socketBuffer)
	one := &podStream{conn: made, channel: channel}
	s.lock.Lock()
	s.open[one] = struct{}{}
	s.lock.Unlock()
	began := time.Now()
	in, out := couple(one, channel, requests)
	s.lock.Lock()
	delete(s.open, one)
	s.lock.Unlock()
	say("stream instance=%s port=%d in=%d out=%d seconds=%.1f",
		plain(instance), port, in, out, time.Since(began).Seconds())
}

// watch closes stuck streams when memory is short.
func (s *streams) watch(ctx context.Context) {
	for rest(ctx, watchEvery) {
		if heap() <= s.limit {
			continue
		}
		runtime.GC()
		if used := heap(); used > s.limit {
			s.relieve(used - s.limit)
		}
	}
}

func (s *streams) relieve(excess uint64) {
	latest := time.Now().Add(-stuckAfter).UnixNano()
	type waiting struct {
		*podStream
		since int64
	}
	var stuck []waiting
	s.lock.Lock()
	for each := range s.open {
		if since := each.writing.Load(); since != 0 && since < latest {
			stuck = append(stuck, waiting{each, since})
		}
	}
	s.lock.Unlock()
	sort.Slice(stuck, func(i, j int) bool { return stuck[i].since < stuck[j].since })
	for _, each := range stuck {
		say("memory is short: a stream is closed whose pod has not read for %.1f s",
			time.Since(time.Unix(0, each.since)).Seconds())
		each.channel.Close()
		each.conn.SetLinger(0) // what waits in the kernel goes as well
		each.conn.Close()
		if excess <= windowSize {
			return
		}
		excess -= windowSize
	}
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// podStream is the pod's end of a stream. It tells since when somebody waits for it to read.
type podStream struct {
	conn    *net.TCPConn
	channel gossh.Channel
	writing atomic.Int64 // Unix nanoseconds; 0: nobody waits
}

func (p *podStream) Read(into []byte) (int, error) { return p.conn.Read(into) }

func (p *podStream) Write(from []byte) (int, error) {
	p.writing.Store(time.Now().UnixNano())
	defer p.writing.Store(0)
	return p.conn.Write(from)
}

func (p *podStream) Close() error                        { return p.conn.Close() }
func (p *podStream) CloseWrite() error                   { return p.conn.CloseWrite() }
func (p *podStream) SetWriteDeadline(at time.Time) error { return p.conn.SetWriteDeadline(at) }
