package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// The relay: the way from the SSH gateway into a cluster that nobody can connect to from outside.
// It runs in the cluster and belongs to its owner. It dials the gateway, listens nowhere, and
// carries what the gateway opens to pods of rentals, which it finds and judges itself (relaypods.go).

const (
	// How often names of gateways are looked up again.
	lookupEvery = 15 * time.Second
	lookupLimit = 5 * time.Second
	// Gateways of one name; more are a fault of the name.
	mostAddresses = 16
	dialLimit     = 5 * time.Second
	// A connection over which nothing answers is given up after the sum; the gateway behind a
	// restarted machine or a forgetful NAT is then called anew.
	keepaliveEvery = 5 * time.Second
	keepaliveLimit = 10 * time.Second
	// The pause before a new attempt is a quarter of the time without a connection, within these: a
	// gateway that was away for four seconds waits for one more at most, and one that is gone for
	// good is asked every five seconds.
	shortestPause = 250 * time.Millisecond
	longestPause  = 5 * time.Second
	// A connection that ended sooner has not ended the time without one.
	settled = 5 * time.Second
	// The library remembers refused channels for as long as the connection lives; after so many a
	// new connection forgets them.
	mostRefusals = 20000
)

type relaying struct {
	cluster string
	keys    string
	pods    *podFinder
	streams *streams
	agent   *agent // nil: it executes no commands

	lock    sync.Mutex
	wanted  map[string]bool     // addresses of gateways
	open    map[*trunk]struct{} // connections to them
	leaving bool
	held    sync.WaitGroup
}

type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, strings.Split(value, ",")...)
	return nil
}

// relay serves until SIGTERM, and then until its last stream has ended.
//
// In the folder of keys: relay.seed, 32 bytes in base64, from which the key is made that proves this
// relay; gateway.pub, the gateway's host key, one or more lines. Both are read anew for each
// connection.
func relay(words []string) error {
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	var gateways list
	flags.Var(&gateways, "gateway", "host:port of a gateway; may be repeated, or several with commas")
	cluster := flags.String("cluster", "", "the name of this cluster (clu_...)")
	keys := flags.String("keys", os.Getenv("GPUYARD_KEYS"), "folder of relay.seed and gateway.pub")
	prefix := flags.String("namespaces", "gpuyard-r-", "how the namespaces of rentals begin")
	account := flags.String("account", "/var/run/secrets/kubernetes.io/serviceaccount", "folder of token and ca.crt")
	api := flags.String("api", apiOfCluster(), "https address of the API server")
	commands := flags.Bool("commands", false, "execute the platform's commands as well (agent.go)")
	memory := flags.Int("memory", 320, "MiB, above which streams are closed whose pods do not read")
	if err := flags.Parse(words); err != nil {
		return err
	}
	if *cluster == "" || len(gateways) == 0 || *prefix == "" || flags.NArg() > 0 {
		return usage()
	}
	pods, err := newPodFinder(*api, *account, *prefix)
	if err != nil {
		return err
	}
	r := &relaying{
		cluster: *cluster,
		keys:    *keys,
		pods:    pods,
		streams: newStreams(uint64(*memory) << 20),
		wanted:  map[string]bool{},
		open:    map[*trunk]struct{}{},
	}
	if _, err := r.identity(); err != nil {
		return err
	}
	if *commands {
		if r.agent, err = newAgent(pods, *keys); err != nil {
			return err
		}
	}
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	ctx, cancel := context.WithCancel(context.Background())
	go r.streams.watch(context.Background())
	for _, each := range gateways {
		host, port, err := net.SplitHostPort(each)
		if err != nil {
			cancel()
			return fmt.Errorf("-gateway %q: %w", each, err)
		}
		r.held.Add(1)
		go r.follow(ctx, host, port)
	}
	<-stop
	cancel()
	if r.agent != nil {
		r.agent.leave()
	}
	r.leave()
	ended := make(chan struct{})
	go func() {
		r.held.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-stop:
	}
	return nil
}

// identity is how the relay proves itself and whom it trusts.
func (r *relaying) identity() (*gossh.ClientConfig, error) {
	text, err := os.ReadFile(filepath.Join(r.keys, "relay.seed"))
	if err != nil {
		return nil, fmt.Errorf("no seed: %w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("relay.seed is not 32 bytes in base64")
	}
	signer, err := gossh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return nil, err
	}
	lines, err := os.ReadFile(filepath.Join(r.keys, "gateway.pub"))
	if err != nil {
		return nil, fmt.Errorf("no gateway key: %w", err)
	}
	trusted := map[string]bool{}
	var kinds []string
	for len(bytes.TrimSpace(lines)) > 0 {
		key, _, _, left, err := gossh.ParseAuthorizedKey(lines)
		if err != nil {
			return nil, fmt.Errorf("gateway.pub cannot be read: %w", err)
		}
		trusted[string(key.Marshal())] = true
		if kind := key.Type(); kind == gossh.KeyAlgoRSA {
			kinds = append(kinds, gossh.KeyAlgoRSASHA512, gossh.KeyAlgoRSASHA256)
		} else {
			kinds = append(kinds, kind)
		}
		lines = left
	}
	if len(trusted) == 0 {
		return nil, errors.New("gateway.pub holds no key")
	}
	return &gossh.ClientConfig{
		// The one cipher of this library that is safe without strict key exchange, which it does not
		// know (CVE-2023-48795): this connection crosses networks of strangers.
		Config:            gossh.Config{Ciphers: []string{"aes128-gcm@openssh.com"}},
		User:              r.cluster,
		Auth:              []gossh.AuthMethod{gossh.PublicKeys(signer)},
		HostKeyAlgorithms: kinds,
		HostKeyCallback: func(_ string, _ net.Addr, shown gossh.PublicKey) error {
			if !trusted[string(shown.Marshal())] {
				return errors.New("this is not the gateway: its host key is another")
			}
			return nil
		},
		ClientVersion: "SSH-2.0-gpuyard-relay",
	}, nil
}

// follow keeps a connection to every address of a name, of those there are now.
func (r *relaying) follow(ctx context.Context, host, port string) {
	defer r.held.Done()
	var mine, said []string
	for ctx.Err() == nil {
		pause := lookupEvery
		patience, cancel := context.WithTimeout(ctx, lookupLimit)
		found, err := net.DefaultResolver.LookupHost(patience, host)
		cancel()
		if err != nil && ctx.Err() == nil {
			if len(said) == 0 {
				say("%s is not found: %v", host, err)
			}
			said, pause = []string{host}, time.Second
			if len(mine) > 0 {
				pause = longestPause // those it had are kept
			}
		} else if err == nil {
			said = nil
			mine = r.want(ctx, mine, found, port)
		}
		rest(ctx, pause)
	}
}

// want replaces one name's addresses, and begins with those that are new.
func (r *relaying) want(ctx context.Context, before, found []string, port string) []string {
	sort.Strings(found)
	if len(found) > mostAddresses {
		found = found[:mostAddresses]
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	now := map[string]bool{}
	var addresses []string
	for _, each := range found {
		address := net.JoinHostPort(each, port)
		if !now[address] {
			now[address] = true
			addresses = append(addresses, address)
		}
	}
	for _, each := range before {
		if !now[each] {
			r.wanted[each] = false // its connection is kept for as long as it lives
		}
	}
	for _, each := range addresses {
		_, running := r.wanted[each]
		r.wanted[each] = true
		if !running {
			r.held.Add(1)
			go r.hold(ctx, each)
		}
	}
	return addresses
}

// over is whether nobody wants that address any more; it is then forgotten.
func (r *relaying) over(ctx context.Context, address string) bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	if ctx.Err() == nil && r.wanted[address] {
		return false
	}
	delete(r.wanted, address)
	return true
}

// hold keeps a connection to one address.
func (r *relaying) hold(ctx context.Context, address string) {
	defer r.held.Done()
	without, said := time.Now(), ""
	for !r.over(ctx, address) {
		began := time.Now()
		connected, err := r.connect(ctx, address)
		if connected && time.Since(began) > settled {
			without = time.Now()
		}
		if text := plain(fmt.Sprint(err)); ctx.Err() == nil && (connected || text != said) {
			say("gateway %s: %s", address, text)
			said = text
		}
		pause := time.Since(without) / 4
		if pause < shortestPause {
			pause = shortestPause
		} else if pause > longestPause {
			pause = longestPause
		}
		// All relays of a gateway that comes back would else come at once.
		rest(ctx, pause-time.Duration(rand.Int63n(int64(pause)/4)))
	}
}

// connect connects once, and serves until that ends; whether it came to that, and why it ended.
func (r *relaying) connect(ctx context.Context, address string) (bool, error) {
	identity, err := r.identity()
	if err != nil {
		return false, err
	}
	dialer := net.Dialer{Timeout: dialLimit}
	socket, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return false, err
	}
	socket.SetDeadline(time.Now().Add(handshakeLimit))
	conn, asked, requests, err := gossh.NewClientConn(socket, address, identity)
	if err != nil {
		return false, err
	}
	socket.SetDeadline(time.Time{})
	made := &trunk{relaying: r, Conn: conn}
	if !r.enter(made) {
		conn.Close()
		return false, ctx.Err()
	}
	defer r.exit(made)
	say("gateway %s: connected", address)
	return true, made.serve(asked, requests)
}

func (r *relaying) enter(made *trunk) bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	if !r.leaving {
		r.open[made] = struct{}{}
	}
	return !r.leaving
}

func (r *relaying) exit(gone *trunk) {
	r.lock.Lock()
	defer r.lock.Unlock()
	delete(r.open, gone)
}

// leave ends connections without streams now, and others with their last stream. By then another
// relay has come, and the gateway uses the newest.
func (r *relaying) leave() {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.leaving = true
	for each := range r.open {
		each.leave()
	}
}

// trunk is a connection to one gateway.
type trunk struct {
	gossh.Conn
	relaying *relaying

	lock    sync.Mutex
	streams int
	refused int
	leaving bool
}

func (t *trunk) serve(asked <-chan gossh.NewChannel, requests <-chan *gossh.Request) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go gossh.DiscardRequests(requests)
	go t.ask(ctx)
	for each := range asked {
		t.begin()
		go func(each gossh.NewChannel) {
			defer t.end()
			t.open(ctx, each)
		}(each)
	}
	return t.Wait()
}

// ask closes the connection when the gateway does not answer.
func (t *trunk) ask(ctx context.Context) {
	for rest(ctx, keepaliveEvery) {
		answered := make(chan error, 1)
		go func() {
			_, _, err := t.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		}()
		patience := time.NewTimer(keepaliveLimit)
		select {
		case <-answered: // refused is answered, too
		case <-patience.C:
			say("the gateway does not answer")
			t.Close()
		}
		patience.Stop()
	}
}

func (t *trunk) begin() {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.streams++
}

func (t *trunk) end() {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.streams--
	if t.leaving && t.streams == 0 {
		t.Close()
	}
}

func (t *trunk) leave() {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.leaving = true
	if t.streams == 0 {
		t.Close()
	}
}

// open answers the wish for a stream, and carries it until it ends.
func (t *trunk) open(ctx context.Context, asked gossh.NewChannel) {
	var to struct {
		Host     string
		Port     uint32
		From     string
		FromPort uint32
	}
	if asked.ChannelType() != "forwarded-tcpip" {
		t.refuse(asked, gossh.UnknownChannelType, "a relay has nothing but streams to pods")
		return
	}
	if err := gossh.Unmarshal(asked.ExtraData(), &to); err != nil {
		t.refuse(asked, gossh.ConnectionFailed, "malformed request")
		return
	}
	if !t.relaying.streams.enter() {
		t.refuse(asked, gossh.ResourceShortage, fmt.Sprintf("this relay carries %d streams, the most", mostStreams))
		return
	}
	defer t.relaying.streams.exit()
	if to.Host == commandHost && to.Port == commandPort {
		t.command(asked)
		return
	}
	instance, made, err := t.relaying.pods.reach(ctx, to.Host, to.Port)
	if err != nil {
		say("refused %q port %d: %s", plain(to.Host), to.Port, plain(err.Error()))
		t.refuse(asked, gossh.ConnectionFailed, err.Error())
		return
	}
	channel, requests, err := asked.Accept()
	if err != nil {
		made.Close()
		return
	}
	t.relaying.streams.carry(instance, to.Port, made, channel, requests)
}

func (t *trunk) command(asked gossh.NewChannel) {
	if t.relaying.agent == nil {
		t.refuse(asked, gossh.Prohibited, "this relay executes no commands")
		return
	}
	if channel, requests, err := asked.Accept(); err == nil {
		t.relaying.agent.take(channel, requests)
	}
}

func (t *trunk) refuse(asked gossh.NewChannel, reason gossh.RejectionReason, why string) {
	asked.Reject(reason, why)
	t.lock.Lock()
	defer t.lock.Unlock()
	t.refused++
	if t.refused == mostRefusals {
		say("%d streams were refused on this connection; connecting anew", mostRefusals)
		t.Close()
	}
}

// rest waits; false when there is no need to any more.
func rest(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// say writes a line for the owner of the cluster.
func say(format string, values ...interface{}) {
	fmt.Fprintf(os.Stderr, "gpuyard: "+format+"\n", values...)
}

// plain is what somebody else said, fit for one line of a log.
func plain(text string) string {
	kept := strings.Map(func(letter rune) rune {
		if letter < ' ' || letter > '~' {
			return '?'
		}
		return letter
	}, text)
	if len(kept) > 300 {
		return kept[:300]
	}
	return kept
}
