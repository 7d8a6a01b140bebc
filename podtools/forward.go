package main

import (
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"
)

// How long somebody who reads slowly has for the end of what was sent, when its sender has left.
const lastBytesLimit = 30 * time.Second

// Ports forwarded both ways. The library's own handlers close both directions when one has ended,
// which cuts off answers to those who send all first.

// forward connects to where the client asks.
func forward(_ *ssh.Server, _ *gossh.ServerConn, asked gossh.NewChannel, ctx ssh.Context) {
	var to struct {
		Host     string
		Port     uint32
		From     string
		FromPort uint32
	}
	if err := gossh.Unmarshal(asked.ExtraData(), &to); err != nil {
		asked.Reject(gossh.ConnectionFailed, "malformed request")
		return
	}
	var dialer net.Dialer
	made, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	if err != nil {
		asked.Reject(gossh.ConnectionFailed, err.Error())
		return
	}
	channel, requests, err := asked.Accept()
	if err != nil {
		made.Close()
		return
	}
	couple(made.(*net.TCPConn), channel, requests)
}

// farEnd is a TCP connection, or what stands for one.
type farEnd interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetWriteDeadline(time.Time) error
}

// couple carries bytes both ways and ends each direction by itself; how many it carried into conn and
// out of it. A channel that is closed, or lost with its connection, ends both, once conn has taken
// what was said last.
func couple(conn farEnd, channel gossh.Channel, requests <-chan *gossh.Request) (in, out int64) {
	var both sync.WaitGroup
	both.Add(2)
	taken := make(chan struct{})
	go func() {
		defer both.Done()
		defer close(taken)
		in, _ = io.Copy(conn, channel)
		conn.CloseWrite()
	}()
	go func() {
		defer both.Done()
		var err error
		if out, err = io.Copy(channel, conn); err != nil { // broken: there is no other half either
			channel.Close()
			conn.Close()
			return
		}
		channel.CloseWrite()
	}()
	go func() {
		gossh.DiscardRequests(requests) // until the channel is closed
		conn.SetWriteDeadline(time.Now().Add(lastBytesLimit))
		<-taken
		conn.Close()
	}()
	both.Wait()
	conn.Close()
	channel.Close()
	return in, out
}

// remotes are the ports in the pod that clients listen at, by connection and address.
type remotes struct {
	sync.Mutex
	open map[remote]net.Listener
}

type remote struct {
	conn    *gossh.ServerConn
	address string
}

var listening = remotes{open: map[remote]net.Listener{}}

type bind struct {
	Host string
	Port uint32
}

func (b bind) address() string { return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))) }

// listen hands whoever connects to a port of the pod to the client, until it leaves or has enough.
func listen(ctx ssh.Context, _ *ssh.Server, asked *gossh.Request) (bool, []byte) {
	var at bind
	if gossh.Unmarshal(asked.Payload, &at) != nil {
		return false, nil
	}
	listener, err := net.Listen("tcp", at.address())
	if err != nil {
		return false, []byte(err.Error())
	}
	_, number, _ := net.SplitHostPort(listener.Addr().String())
	chosen, _ := strconv.Atoi(number)
	at.Port = uint32(chosen) // asked for 0, it is named from now on by what it got
	conn := ctx.Value(ssh.ContextKeyConn).(*gossh.ServerConn)
	listening.Lock()
	listening.open[remote{conn, at.address()}] = listener
	listening.Unlock()
	go func() {
		<-ctx.Done()
		unlisten(conn, at)
	}()
	go func() {
		for {
			made, err := listener.Accept()
			if err != nil {
				return
			}
			go offer(conn, at, made.(*net.TCPConn))
		}
	}()
	return true, gossh.Marshal(&struct{ Port uint32 }{at.Port})
}

func offer(conn *gossh.ServerConn, at bind, made *net.TCPConn) {
	from := made.RemoteAddr().(*net.TCPAddr)
	about := gossh.Marshal(&struct {
		Host     string
		Port     uint32
		From     string
		FromPort uint32
	}{at.Host, at.Port, from.IP.String(), uint32(from.Port)})
	channel, requests, err := conn.OpenChannel("forwarded-tcpip", about)
	if err != nil {
		made.Close()
		return
	}
	couple(made, channel, requests)
}

func unlistenAsked(ctx ssh.Context, _ *ssh.Server, asked *gossh.Request) (bool, []byte) {
	var at bind
	if gossh.Unmarshal(asked.Payload, &at) != nil {
		return false, nil
	}
	return unlisten(ctx.Value(ssh.ContextKeyConn).(*gossh.ServerConn), at), nil
}

func unlisten(conn *gossh.ServerConn, at bind) bool {
	listening.Lock()
	defer listening.Unlock()
	listener, found := listening.open[remote{conn, at.address()}]
	if found {
		listener.Close()
		delete(listening.open, remote{conn, at.address()})
	}
	return found
}
