package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/gliderlabs/ssh"
	"github.com/pkg/sftp"
)

// How long a terminal is read on after its program has ended: what is still in it is read at once,
// and a program left behind in it must not keep the session open.
const drainLimit = 200 * time.Millisecond

// sessions are those to say goodbye to.
type sessions struct {
	sync.Mutex
	open map[ssh.Session]struct{}
}

var live = sessions{open: map[ssh.Session]struct{}{}}

func (s *sessions) add(one ssh.Session) (remove func()) {
	s.Lock()
	defer s.Unlock()
	s.open[one] = struct{}{}
	return func() {
		s.Lock()
		defer s.Unlock()
		delete(s.open, one)
	}
}

// end tells everybody inside why it ends, and ends it.
func (s *sessions) end(patience context.Context) {
	s.Lock()
	told := make(chan struct{}, len(s.open))
	for one := range s.open {
		go func(one ssh.Session) {
			io.WriteString(one.Stderr(), goodbye)
			one.Exit(255)
			told <- struct{}{}
		}(one)
	}
	left := len(s.open)
	s.Unlock()
	for ; left > 0; left-- {
		select {
		case <-told:
		case <-patience.Done():
			return
		}
	}
}

// session runs a shell, or one command, as the image's user would have it.
func session(s ssh.Session) {
	defer live.add(s)()
	who := me()
	command, err := program(who, s.RawCommand(), s.Command())
	if err != nil {
		fmt.Fprintf(s.Stderr(), "gpuyard: %v\r\n", err)
		s.Exit(127)
		return
	}
	command.Dir = who.home
	command.Env = append(variables(s, who), s.Environ()...)
	size, resized, terminal := s.Pty()
	if terminal {
		command.Env = append(command.Env, "TERM="+size.Term)
		err = inTerminal(s, command, size.Window, resized)
	} else {
		err = piped(s, command)
	}
	s.Exit(status(s, err))
}

// program is what to run: a login shell, a command line given to the shell, or, in an image without
// a shell, the command itself.
func program(who account, line string, words []string) (*exec.Cmd, error) {
	switch {
	case who.shell == "" && len(words) == 0:
		return nil, errors.New("this image has no shell; give a command, for example: ssh HOST /path/to/program")
	case who.shell == "":
		return exec.Command(words[0], words[1:]...), nil
	case line == "":
		login := exec.Command(who.shell)
		login.Args[0] = "-" + filepath.Base(who.shell)
		return login, nil
	}
	return exec.Command(who.shell, "-c", line), nil
}

func variables(s ssh.Session, who account) []string {
	from, to := s.RemoteAddr(), s.LocalAddr()
	found := environment()
	if !has(found, "PATH") {
		found = append(found, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	return append(found,
		"USER="+who.name, "LOGNAME="+who.name, "HOME="+who.home, "SHELL="+who.shell,
		"SSH_CONNECTION="+pair(from)+" "+pair(to), "SSH_CLIENT="+pair(from)+" "+port(to),
	)
}

func has(environment []string, name string) bool {
	for _, each := range environment {
		if strings.HasPrefix(each, name+"=") {
			return true
		}
	}
	return false
}

func pair(address net.Addr) string {
	host, number, _ := net.SplitHostPort(address.String())
	return host + " " + number
}

func port(address net.Addr) string {
	_, number, _ := net.SplitHostPort(address.String())
	return number
}

func inTerminal(s ssh.Session, command *exec.Cmd, size ssh.Window, resized <-chan ssh.Window) error {
	master, err := pty.StartWithSize(command, window(size))
	if err != nil {
		return err
	}
	defer master.Close() // hangs up on whoever still sits in it
	go func() {
		for each := range resized {
			pty.Setsize(master, window(each))
		}
	}()
	go signals(s, command)
	go io.Copy(master, s)
	read := make(chan struct{})
	go func() {
		io.Copy(s, master)
		close(read)
	}()
	gone := make(chan struct{})
	defer close(gone)
	go func() { // a connection that breaks hangs up as well
		select {
		case <-s.Context().Done():
			master.Close()
		case <-gone:
		}
	}()
	err = command.Wait()
	select {
	case <-read:
	case <-time.After(drainLimit):
	}
	return err
}

func window(size ssh.Window) *pty.Winsize {
	return &pty.Winsize{Rows: uint16(size.Height), Cols: uint16(size.Width)}
}

func piped(s ssh.Session, command *exec.Cmd) error {
	// Its own group: what a client's signal means is the command with all it started.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Stdout, command.Stderr = s, s.Stderr()
	input, err := command.StdinPipe() // Wait must not wait for a client that sends nothing
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	go signals(s, command)
	go func() {
		io.Copy(input, s)
		input.Close()
	}()
	return command.Wait()
}

var named = map[ssh.Signal]syscall.Signal{
	ssh.SIGHUP: syscall.SIGHUP, ssh.SIGINT: syscall.SIGINT, ssh.SIGKILL: syscall.SIGKILL,
	ssh.SIGQUIT: syscall.SIGQUIT, ssh.SIGTERM: syscall.SIGTERM,
	ssh.SIGUSR1: syscall.SIGUSR1, ssh.SIGUSR2: syscall.SIGUSR2,
}

// signals hands what the client asks for to the command's group, until the session ends.
func signals(s ssh.Session, command *exec.Cmd) {
	asked := make(chan ssh.Signal, 8)
	s.Signals(asked)
	defer s.Signals(nil)
	for {
		select {
		case <-s.Context().Done():
			return
		case each := <-asked:
			if known, ok := named[each]; ok {
				syscall.Kill(-command.Process.Pid, known)
			}
		}
	}
}

func status(s ssh.Session, err error) int {
	var left *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &left):
		if by, ok := left.Sys().(syscall.WaitStatus); ok && by.Signaled() {
			return 128 + int(by.Signal())
		}
		return left.ExitCode()
	}
	fmt.Fprintf(s.Stderr(), "gpuyard: %v\r\n", err)
	if errors.Is(err, os.ErrPermission) {
		return 126 // as shells say that a program may not be run, and below that there is none
	}
	return 127
}

// files is sftp, and with it scp: as the container's user, from their home.
func files(s ssh.Session) {
	server, err := sftp.NewServer(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpuyard: sftp:", err)
		s.Exit(1)
		return
	}
	defer server.Close()
	if err := server.Serve(); err != nil && err != io.EOF {
		s.Exit(1)
		return
	}
	s.Exit(0)
}
