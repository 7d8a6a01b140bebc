package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"
)

const (
	// A handshake that takes longer is no gateway's. Below it a loaded machine would be refused.
	handshakeLimit = 15 * time.Second
	// Connections that have not proven themselves; more wait in the kernel's queue.
	handshakesAtOnce = 32
	// What the goodbye may take, to somebody whose connection is stuck; the pod's grace is ten seconds.
	goodbyeLimit = 2 * time.Second

	goodbye = "\r\ngpuyard: this machine is being stopped. Your disk is kept unless the rental was ended.\r\n"
)

// serve lets in who holds the gateway's key, until SIGTERM.
func serve(address string) error {
	server, err := newServer(os.Getenv("GPUYARD_KEYS"))
	if err != nil {
		return err
	}
	// sftp has no other notion of where a relative path begins.
	if err := os.Chdir(me().home); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Fprintln(os.Stderr, "gpuyard: SSH answers at", listener.Addr())
	select {
	case err := <-failed:
		return err
	case <-stop:
	}
	patience, cancel := context.WithTimeout(context.Background(), goodbyeLimit)
	defer cancel()
	live.end(patience)
	// Whoever read the goodbye leaves; a connection closed under them would take it along.
	server.Shutdown(patience)
	return server.Close()
}

func newServer(keys string) (*ssh.Server, error) {
	private, err := os.ReadFile(filepath.Join(keys, "host-key"))
	if err != nil {
		return nil, fmt.Errorf("no host key: %w", err)
	}
	signer, err := gossh.ParsePrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("the host key cannot be read: %w", err)
	}
	public, err := os.ReadFile(filepath.Join(keys, "gateway.pub"))
	if err != nil {
		return nil, fmt.Errorf("no gateway key: %w", err)
	}
	trusted, _, _, _, err := gossh.ParseAuthorizedKey(public)
	if err != nil {
		return nil, fmt.Errorf("the gateway key cannot be read: %w", err)
	}
	known := trusted.Marshal()
	return &ssh.Server{
		Version:     "gpuyard",
		HostSigners: []ssh.Signer{signer},
		PublicKeyHandler: func(_ ssh.Context, key ssh.PublicKey) bool {
			return bytes.Equal(key.Marshal(), known)
		},
		ConnCallback:         admit,
		ServerConfigCallback: proven,
		Handler:              session,
		SubsystemHandlers:    map[string]ssh.SubsystemHandler{"sftp": files},
		ChannelHandlers: map[string]ssh.ChannelHandler{
			"session":      ssh.DefaultSessionHandler,
			"direct-tcpip": forward,
		},
		RequestHandlers: map[string]ssh.RequestHandler{
			"tcpip-forward":        listen,
			"cancel-tcpip-forward": unlistenAsked,
		},
	}, nil
}

type knock struct{}

// admission ends a connection that does not prove itself in time, and counts those that have yet to.
type admission struct {
	net.Conn
	once sync.Once
}

var knocking = make(chan struct{}, handshakesAtOnce)

func admit(ctx ssh.Context, conn net.Conn) net.Conn {
	knocking <- struct{}{}
	conn.SetDeadline(time.Now().Add(handshakeLimit))
	made := &admission{Conn: conn}
	ctx.SetValue(knock{}, made)
	return made
}

func (a *admission) leave() { a.once.Do(func() { <-knocking }) }

// SetDeadline does nothing: the library sets a far one with each read, and ours must stay.
func (a *admission) SetDeadline(time.Time) error { return nil }

func (a *admission) Close() error {
	a.leave()
	return a.Conn.Close()
}

func proven(ctx ssh.Context) *gossh.ServerConfig {
	return &gossh.ServerConfig{
		MaxAuthTries: 3,
		AuthLogCallback: func(_ gossh.ConnMetadata, method string, err error) {
			if at, ok := ctx.Value(knock{}).(*admission); ok && err == nil && method == "publickey" {
				at.Conn.SetDeadline(time.Time{})
				at.leave()
			}
		},
	}
}
