package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// The agent: what a relay does besides, where the owner of a cluster that nobody can connect to lets
// it. It executes commands on the cluster's API server, by its own account, if they are on the list
// below, which is what the role in bundle.yaml allows and nothing else. Each is a line in its log.
//
// Commands come as HTTPS over a stream that the gateway opens, and TLS ends here, not at the gateway:
// who asks has a token that only the platform's own programs know, and knows this agent by its
// certificate. So a gateway gone bad can cut the line, and neither read nor ask anything.

const (
	// The name and port by which the gateway opens a stream for commands. No pod is called so: its
	// name would have a dot.
	commandHost = "api"
	commandPort = 443
	// Raised when commands are added; an older agent refuses them and says its version.
	agentVersion = 1
	// Commands at once: the platform keeps a few connections per program, and a watch and some logs
	// stay open. More are answered with 429.
	mostCommands = 128
	// In a second, on average and at once: ten times what a full cluster needs.
	commandRate  = 100
	commandBurst = 300
	turnLimit    = 2 * time.Second
	// A command's body. The largest is a pod, which etcd takes up to 1.5 MiB.
	mostBody = 2 << 20
	// To begin an answer. The platform gives up after eight seconds.
	answerLimit = 15 * time.Second
	// The last word of something that ends by itself: a watch is asked for in minutes.
	longestCommand = 15 * time.Minute
)

type command struct {
	method string
	path   *regexp.Regexp
}

type agent struct {
	pods     *podFinder
	keys     string
	commands []command
	server   *http.Server
	slots    chan struct{}
	tokens   chan struct{}
	streams  chan net.Conn
}

// newAgent serves commands until the process ends. In the folder of keys, besides the relay's:
// agent.pem, certificate and private key by which the platform knows it, and agent.token, which who
// asks must show. Both are read anew when they are needed.
func newAgent(pods *podFinder, keys string) (*agent, error) {
	a := &agent{
		pods:     pods,
		keys:     keys,
		commands: commandsIn(pods.prefix),
		slots:    make(chan struct{}, mostCommands),
		tokens:   make(chan struct{}, commandBurst),
		streams:  make(chan net.Conn),
	}
	if _, err := a.certificate(nil); err != nil {
		return nil, err
	}
	if _, err := a.token(); err != nil {
		return nil, err
	}
	for i := 0; i < commandBurst; i++ {
		a.tokens <- struct{}{}
	}
	go a.refill()
	a.server = &http.Server{
		Handler:           a,
		ReadHeaderTimeout: handshakeLimit,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	secured := tls.NewListener(a, &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: a.certificate})
	go func() {
		say("the agent serves no longer: %v", a.server.Serve(secured))
		os.Exit(1)
	}()
	return a, nil
}

// commandsIn is all that is ever executed.
func commandsIn(prefix string) []command {
	name := `[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?`
	rental := `/namespaces/` + regexp.QuoteMeta(prefix) + `[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?`
	core, one := `/api/v1`+rental, `/`+name
	leases := `/apis/coordination.k8s.io/v1` + rental + `/leases`
	policies := `/apis/networking.k8s.io/v1` + rental + `/networkpolicies`
	claims := core + `/persistentvolumeclaims`
	reviews := `/apis/authorization.k8s.io/v1/selfsubject(access|rules)reviews`
	var commands []command
	for _, each := range [][2]string{
		{"GET", `/version/?`},
		{"GET", `/api/v1/nodes(` + one + `)?`},
		{"GET", `/apis/node.k8s.io/v1(beta1)?/runtimeclasses(` + one + `)?`},
		{"GET", `/apis/storage.k8s.io/v1/storageclasses(` + one + `)?`},
		{"GET", `/apis/coordination.k8s.io/v1/namespaces/gpuyard-system/leases/gpuyard-reaper`},
		{"POST", reviews},
		{"GET|POST", core + `/pods`},
		{"GET|DELETE", core + `/pods` + one},
		{"GET", core + `/pods` + one + `/log`},
		{"POST", core + `/secrets`},
		{"DELETE", core + `/secrets` + one},
		{"GET|POST", core + `/services`},
		{"GET|DELETE", core + `/services` + one},
		{"GET", core + `/events`},
		{"GET|POST", claims},
		{"GET|PATCH|DELETE", claims + one},
		{"GET|POST", leases},
		{"GET|PUT|DELETE", leases + one},
		{"GET", core + `/(resourcequotas|limitranges)(` + one + `)?`},
		{"GET", policies + `(` + one + `)?`},
	} {
		for _, method := range strings.Split(each[0], "|") {
			commands = append(commands, command{method, regexp.MustCompile(`^` + each[1] + `$`)})
		}
	}
	return commands
}

// take carries a stream that the gateway has opened for commands.
func (a *agent) take(channel gossh.Channel, requests <-chan *gossh.Request) {
	go gossh.DiscardRequests(requests)
	// A pipe, because the server sets deadlines, which channels do not have.
	outer, inner := net.Pipe()
	a.streams <- inner
	inward := make(chan struct{})
	go func() {
		io.Copy(outer, channel)
		outer.Close()
		close(inward)
	}()
	io.Copy(channel, outer)
	outer.Close()
	channel.Close()
	<-inward
}

// leave answers what was asked and keeps no connection for more: another agent has come.
func (a *agent) leave() { a.server.SetKeepAlivesEnabled(false) }

// Accept, Close and Addr make it the listener of its server.
func (a *agent) Accept() (net.Conn, error) { return <-a.streams, nil }
func (a *agent) Close() error              { return nil }
func (a *agent) Addr() net.Addr            { return &net.UnixAddr{Name: "gateway", Net: "unix"} }

func (a *agent) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	where := filepath.Join(a.keys, "agent.pem")
	found, err := tls.LoadX509KeyPair(where, where)
	if err != nil {
		return nil, fmt.Errorf("agent.pem cannot be used: %w", err)
	}
	return &found, nil
}

func (a *agent) token() (string, error) {
	text, err := os.ReadFile(filepath.Join(a.keys, "agent.token"))
	token := strings.TrimSpace(string(text))
	if err == nil && len(token) < 32 {
		err = errors.New("it is too short")
	}
	if err != nil {
		return "", fmt.Errorf("agent.token cannot be used: %w", err)
	}
	return token, nil
}

func (a *agent) refill() {
	for range time.Tick(time.Second / commandRate) {
		select {
		case a.tokens <- struct{}{}:
		default:
		}
	}
}

// counted is an answer on its way, for the log.
type counted struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counted) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counted) Write(data []byte) (int, error) {
	n, err := c.ResponseWriter.Write(data)
	c.bytes += int64(n)
	return n, err
}

func (a *agent) ServeHTTP(writer http.ResponseWriter, asked *http.Request) {
	began, answer := time.Now(), &counted{ResponseWriter: writer, status: http.StatusOK}
	why := "broken off"
	defer func() { // also when the answer is broken off
		what := plain(asked.Method + " " + asked.URL.RequestURI())
		say("command %s -> %d, %d bytes, %.3f s %s", what, answer.status, answer.bytes, time.Since(began).Seconds(), plain(why))
	}()
	why = a.execute(answer, asked)
}

// execute passes one command on and its answer back; the reason when it does not.
func (a *agent) execute(writer http.ResponseWriter, asked *http.Request) string {
	token, err := a.token()
	if err != nil {
		return refuse(writer, http.StatusServiceUnavailable, "ServiceUnavailable", err.Error())
	}
	given := strings.TrimPrefix(asked.Header.Get("Authorization"), "Bearer ")
	if subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
		return refuse(writer, http.StatusUnauthorized, "Unauthorized", "the agent does not know who asks")
	}
	if !a.knows(asked) {
		return refuse(writer, http.StatusForbidden, "Forbidden", fmt.Sprintf(
			"the agent (version %d) cannot execute %s %s: it is not on its list", agentVersion, asked.Method, plain(asked.URL.Path)))
	}
	if !a.turn(asked.Context()) {
		return tooMany(writer)
	}
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	default:
		return tooMany(writer)
	}
	return a.pass(writer, asked)
}

// turn waits for the rate; false when that would be too long. Who asks much is slowed down before it
// is refused.
func (a *agent) turn(ctx context.Context) bool {
	patience := time.NewTimer(turnLimit)
	defer patience.Stop()
	select {
	case <-a.tokens:
		return true
	case <-patience.C:
	case <-ctx.Done():
	}
	return false
}

func tooMany(writer http.ResponseWriter) string {
	writer.Header().Set("Retry-After", "1")
	return refuse(writer, http.StatusTooManyRequests, "TooManyRequests", "the agent executes as many commands as it may")
}

func (a *agent) knows(asked *http.Request) bool {
	// One spelling of each path: what is escaped could mean another one to somebody else.
	if asked.URL.RawPath != "" || strings.Contains(asked.URL.Path, "..") || asked.Header.Get("Upgrade") != "" {
		return false
	}
	for _, each := range a.commands {
		if each.method == asked.Method && each.path.MatchString(asked.URL.Path) {
			return true
		}
	}
	return false
}

func (a *agent) pass(writer http.ResponseWriter, asked *http.Request) string {
	client, token, err := a.pods.prepared()
	if err != nil {
		return refuse(writer, http.StatusServiceUnavailable, "ServiceUnavailable", err.Error())
	}
	ctx, cancel := context.WithTimeout(asked.Context(), longestCommand)
	defer cancel()
	patience := time.AfterFunc(answerLimit, cancel)
	where := a.pods.base + asked.URL.Path
	if asked.URL.RawQuery != "" {
		where += "?" + asked.URL.RawQuery
	}
	body := http.MaxBytesReader(writer, asked.Body, mostBody)
	sent, err := http.NewRequestWithContext(ctx, asked.Method, where, body)
	if err != nil {
		return refuse(writer, http.StatusBadRequest, "BadRequest", "this is no address")
	}
	sent.ContentLength = asked.ContentLength
	sent.Header.Set("Authorization", "Bearer "+token)
	for _, name := range []string{"Accept", "Content-Type"} {
		if value := asked.Header.Get(name); value != "" {
			sent.Header.Set(name, value)
		}
	}
	sent.Header.Set("Accept-Encoding", "identity")
	// The client's own limit is for short questions; a watch lasts.
	lasting := &http.Client{Transport: client.Transport, CheckRedirect: client.CheckRedirect}
	answer, err := lasting.Do(sent)
	if err != nil {
		return refuse(writer, http.StatusServiceUnavailable, "ServiceUnavailable", "the API server of this cluster does not answer the agent")
	}
	defer answer.Body.Close()
	if !patience.Stop() {
		return refuse(writer, http.StatusServiceUnavailable, "ServiceUnavailable", "the API server of this cluster did not answer the agent in time")
	}
	for _, name := range []string{"Content-Type", "Retry-After", "Date"} {
		if value := answer.Header.Get(name); value != "" {
			writer.Header().Set(name, value)
		}
	}
	writer.WriteHeader(answer.StatusCode)
	return copyOut(writer, answer.Body)
}

// copyOut sends an answer on as it comes, since a watch is read event by event. An answer that breaks
// off is broken off here as well: its end must not look like one.
func copyOut(writer http.ResponseWriter, body io.Reader) string {
	flusher, buffer := writer.(*counted).ResponseWriter.(http.Flusher), make([]byte, 32<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if _, err := writer.Write(buffer[:n]); err != nil {
				return ""
			}
			flusher.Flush()
		}
		if err == io.EOF {
			return ""
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// refuse answers as an API server does, so that who asks need not know of agents.
func refuse(writer http.ResponseWriter, status int, reason, why string) string {
	body, _ := json.Marshal(map[string]interface{}{
		"kind": "Status", "apiVersion": "v1", "status": "Failure",
		"message": why, "reason": reason, "code": status,
	})
	writer.Header().Set("Content-Type", "application/json")
	writer.WriteHeader(status)
	writer.Write(body)
	return why
}
