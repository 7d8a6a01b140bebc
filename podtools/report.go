package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	reportEvery = 15 * time.Second
	// A vendor's tool that hangs on a broken card must not stop the reports.
	usageLimit = 10 * time.Second
	postLimit  = 10 * time.Second
	// After an answer that will not change soon: the token is of a machine that is ending.
	refusedPause = 5 * time.Minute
	mostCards    = 64
	mebibyte     = 1 << 20
)

// figures are what POST /api/v1/instance-reports takes. Null: not measured, never zero.
type figures struct {
	At      time.Time `json:"at"`
	Devices []device  `json:"devices"`
	SSH     *string   `json:"ssh"`
	Disk    *disk     `json:"disk"`
	Boot    string    `json:"boot"`
	Ports   *[]int    `json:"ports,omitempty"`
}

type device struct {
	ID          string   `json:"id"`
	Percent     *float64 `json:"gpu_percent"`
	MemoryUsed  *int64   `json:"memory_used_bytes"`
	MemoryTotal *int64   `json:"memory_total_bytes"`
	Celsius     *float64 `json:"temperature_c"`
}

type disk struct {
	Used  uint64 `json:"used_bytes"`
	Total uint64 `json:"total_bytes"`
}

// report tells the platform how the machine does, every fifteen seconds, until it is ended. Nothing
// that goes wrong here touches the renter's program.
//
// $GPUYARD_REPORT_URL: where to; $GPUYARD_USAGE: the vendor's command, one line per card: id, percent
// busy, MiB used, MiB in all, degrees; "" where a tool says none. Beside the SSH keys: report-token,
// and ca.pem where the platform's certificate is not of a public authority.
func report(ssh string) error {
	url, keys := os.Getenv("GPUYARD_REPORT_URL"), os.Getenv("GPUYARD_KEYS")
	token, err := os.ReadFile(filepath.Join(keys, "report-token"))
	if err != nil {
		return fmt.Errorf("no token to report with: %w", err)
	}
	client, err := reportClient(filepath.Join(keys, "ca.pem"))
	if err != nil {
		return err
	}
	boot := make([]byte, 8)
	if _, err := rand.Read(boot); err != nil {
		return err
	}
	said := ""
	for {
		began := time.Now()
		found := figures{
			At:      began.UTC(),
			Devices: cards(os.Getenv("GPUYARD_USAGE")),
			SSH:     answers(ssh),
			Disk:    space(me().home),
			Boot:    hex.EncodeToString(boot),
			Ports:   openPorts("/proc/net"),
		}
		pause, err := post(client, url, strings.TrimSpace(string(token)), found)
		// Said once and not every fifteen seconds: it stands in the renter's log.
		if now := fmt.Sprint(err); err != nil && now != said {
			fmt.Fprintln(os.Stderr, "gpuyard: not reported:", err)
			said = now
		} else if err == nil {
			said = ""
		}
		time.Sleep(time.Until(began.Add(pause)))
	}
}

func reportClient(authority string) (*http.Client, error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if given, err := os.ReadFile(authority); err == nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(given) {
			return nil, errors.New("ca.pem holds no certificate")
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, Timeout: postLimit, CheckRedirect: refuse}, nil
}

// post sends one report; how long after its beginning the next is due.
func post(client *http.Client, url, token string, found figures) (time.Duration, error) {
	body, err := json.Marshal(found)
	if err != nil {
		return reportEvery, err
	}
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return refusedPause, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return reportEvery, err
	}
	defer answer.Body.Close()
	io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	switch {
	case answer.StatusCode < 300:
		return reportEvery, nil
	case answer.StatusCode == http.StatusUnauthorized:
		return refusedPause, errors.New(answer.Status)
	case answer.StatusCode == http.StatusTooManyRequests:
		asked, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		return longer(reportEvery, time.Duration(asked)*time.Second), errors.New(answer.Status)
	}
	return reportEvery, errors.New(answer.Status)
}

func longer(a, b time.Duration) time.Duration {
	if a > b {
		return a
	}
	return b
}

// cards asks the vendor's tool. A tool that fails, or is not there, has measured nothing.
func cards(command string) []device {
	found := []device{}
	if command == "" {
		return found
	}
	patience, cancel := context.WithTimeout(context.Background(), usageLimit)
	defer cancel()
	asked, err := ask(patience, command)
	if err != nil {
		return found
	}
	rows := csv.NewReader(bytes.NewReader(asked))
	rows.FieldsPerRecord, rows.TrimLeadingSpace = 5, true
	for len(found) < mostCards {
		row, err := rows.Read()
		if err != nil {
			return found // at the end, or where the tool began to say something else
		}
		found = append(found, device{
			ID:          name(row[0]),
			Percent:     number(row[1], 0, 100),
			MemoryUsed:  bytesOf(row[2]),
			MemoryTotal: bytesOf(row[3]),
			Celsius:     number(row[4], -100, 200),
		})
	}
	return found
}

// ask runs a command line with the image's shell, or word by word where there is none. Its group
// ends with it: a tool's child that keeps the pipe open must not keep us.
func ask(patience context.Context, line string) ([]byte, error) {
	words := strings.Fields(line)
	if shell := shell(""); shell != "" {
		words = []string{shell, "-c", line}
	}
	command := exec.Command(words[0], words[1:]...)
	command.Env = environment()
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	command.Stdout = &said
	if err := command.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err := <-ended:
		return said.Bytes(), err
	case <-patience.Done():
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		<-ended
		return nil, patience.Err()
	}
}

// name is a card's id as the platform takes it: printable ASCII without blanks, 64 at most.
func name(text string) string {
	kept := strings.Map(func(letter rune) rune {
		if letter <= ' ' || letter > '~' {
			return '-'
		}
		return letter
	}, strings.TrimSpace(text))
	if len(kept) > 64 {
		return kept[:64]
	}
	return kept
}

// number is nil for what is none and for what no card can mean.
func number(text string, least, most float64) *float64 {
	value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(value >= least && value <= most) {
		return nil
	}
	return &value
}

func bytesOf(mebibytes string) *int64 {
	value := number(mebibytes, 0, 1<<29)
	if value == nil {
		return nil
	}
	whole := int64(*value * mebibyte)
	return &whole
}

// answers is whether the SSH server of this machine greets; nil where there is none.
func answers(address string) *string {
	if address == "" {
		return nil
	}
	up, down := "up", "down"
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return &down
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	greeting := make([]byte, 4)
	if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting) != "SSH-" {
		return &down
	}
	return &up
}

// space is how full the file system of a folder is.
func space(folder string) *disk {
	var found syscall.Statfs_t
	if syscall.Statfs(folder, &found) != nil {
		return nil
	}
	block := uint64(found.Bsize)
	return &disk{Used: (found.Blocks - found.Bfree) * block, Total: found.Blocks * block}
}
