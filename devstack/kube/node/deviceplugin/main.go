// The device plugin of a machine's fake cards, over the kubelet's real protocol (v1beta1).
//
//	deviceplugin SPEC_FILE
//
// The specification (JSON, see `spec`) says everything; this program knows no vendor. It serves each
// resource on a socket of its own beside the kubelet's, announces it, and does so again whenever the
// kubelet was started anew, which removes all sockets. The file of dead devices is looked at several
// times a second; it names one device a line, of whichever resource.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// How late a death or a restart of the kubelet is noticed: far below the kubelet's own second.
const lookEvery = 200 * time.Millisecond

type spec struct {
	Folder    string // where kubelet.sock is
	Dead      string // file with the ids of dead devices; may be absent
	Resources []resource
}

type resource struct {
	Name    string // as in nvidia.com/gpu
	Visible string // variable that lists the allocated ids, separated by commas
	Devices []device
	Common  nodes // what every container with at least one device gets
}

type device struct {
	ID      string
	Visible string // how Visible calls it
	Nodes   nodes
}

type nodes struct {
	Files  []file // device nodes
	Mounts []file // read-only
}

type file struct{ Host, Container string }

type plugin struct {
	resource
	folder, dead string
}

func main() {
	log.SetFlags(log.Ltime)
	content, err := os.ReadFile(os.Args[1])
	var given spec
	if err == nil {
		err = json.Unmarshal(content, &given)
	}
	if err != nil {
		log.Fatalf("%s: %v", os.Args[1], err)
	}
	failed := make(chan error)
	for _, each := range given.Resources {
		one := &plugin{each, given.Folder, given.Dead}
		go func() { failed <- one.run() }()
	}
	log.Fatal(<-failed)
}

// run serves and announces the resource until that fails for good.
func (p *plugin) run() error {
	kubelet := filepath.Join(p.folder, filepath.Base(api.KubeletSocket))
	for {
		for !exists(kubelet) {
			time.Sleep(lookEvery)
		}
		socket := filepath.Join(p.folder, strings.ReplaceAll(p.Name, "/", "_")+".sock")
		if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
			return err
		}
		listener, err := net.Listen("unix", socket)
		if err != nil {
			return err
		}
		server := grpc.NewServer()
		api.RegisterDevicePluginServer(server, p)
		go server.Serve(listener)
		if err := p.announce(kubelet, filepath.Base(socket)); err != nil {
			log.Printf("%s: cannot announce: %v", p.Name, err)
		} else {
			log.Printf("%s: %d devices announced", p.Name, len(p.Devices))
			for exists(socket) {
				time.Sleep(lookEvery)
			}
		}
		server.Stop()
		time.Sleep(lookEvery)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (p *plugin) announce(kubelet, endpoint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	dial := func(ctx context.Context, path string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	connection, err := grpc.DialContext(ctx, kubelet, grpc.WithInsecure(), grpc.WithContextDialer(dial))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{
		Version: api.Version, Endpoint: endpoint, ResourceName: p.Name,
	})
	return err
}

func (p *plugin) deadIDs() (string, error) {
	content, err := os.ReadFile(p.dead)
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	return "\n" + string(content) + "\n", nil
}

// ListAndWatch sends the devices now and after every change of the file of dead ones.
func (p *plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	sent := "never"
	for stream.Context().Err() == nil {
		dead, err := p.deadIDs()
		if err != nil {
			return err
		}
		if dead != sent {
			answer := &api.ListAndWatchResponse{}
			for _, each := range p.Devices {
				health := api.Healthy
				if strings.Contains(dead, "\n"+each.ID+"\n") {
					health = api.Unhealthy
				}
				answer.Devices = append(answer.Devices, &api.Device{ID: each.ID, Health: health})
			}
			if err := stream.Send(answer); err != nil {
				return err
			}
			sent = dead
		}
		time.Sleep(lookEvery)
	}
	return nil
}

// Allocate says what each container gets, as the vendor's toolkit would.
func (p *plugin) Allocate(_ context.Context, asked *api.AllocateRequest) (*api.AllocateResponse, error) {
	answer := &api.AllocateResponse{}
	for _, container := range asked.ContainerRequests {
		one := &api.ContainerAllocateResponse{}
		add(one, p.Common)
		asked := map[string]bool{}
		for _, id := range container.DevicesIDs {
			asked[id] = true
		}
		var visible []string
		for _, each := range p.Devices { // in their order, whatever the kubelet's is
			if asked[each.ID] {
				add(one, each.Nodes)
				visible = append(visible, each.Visible)
			}
		}
		if len(visible) != len(asked) {
			return nil, fmt.Errorf("not all of %v are here", container.DevicesIDs)
		}
		one.Envs = map[string]string{p.Visible: strings.Join(visible, ",")}
		answer.ContainerResponses = append(answer.ContainerResponses, one)
	}
	return answer, nil
}

func add(to *api.ContainerAllocateResponse, what nodes) {
	for _, each := range what.Files {
		to.Devices = append(to.Devices, &api.DeviceSpec{
			HostPath: each.Host, ContainerPath: each.Container, Permissions: "rw",
		})
	}
	for _, each := range what.Mounts {
		to.Mounts = append(to.Mounts, &api.Mount{
			HostPath: each.Host, ContainerPath: each.Container, ReadOnly: true,
		})
	}
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) GetPreferredAllocation(context.Context, *api.PreferredAllocationRequest) (*api.PreferredAllocationResponse, error) {
	return &api.PreferredAllocationResponse{}, nil
}

func (p *plugin) PreStartContainer(context.Context, *api.PreStartContainerRequest) (*api.PreStartContainerResponse, error) {
	return &api.PreStartContainerResponse{}, nil
}
