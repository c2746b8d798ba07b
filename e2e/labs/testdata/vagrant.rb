# Stands in for Vagrant: notes as JSON what a Vagrantfile asks for.
require "json"

# What a provider is told; settings that only it understands are taken as they come.
class Provider
  attr_reader :customized

  def initialize
    @customized = []
  end

  def customize(arguments)
    @customized << arguments.map(&:to_s)
  end

  def method_missing(*); end

  def respond_to_missing?(*)
    true
  end
end

# A machine, or what holds for all.
class Machine
  attr_reader :machines, :networks, :provisions, :folders, :providers
  attr_accessor :box, :hostname

  def initialize
    @machines = {}
    @networks = []
    @provisions = []
    @folders = {}
    @providers = {}
  end

  def vm
    self
  end

  def define(name)
    yield @machines[name] = Machine.new
  end

  def network(_kind, **options)
    @networks << options
  end

  def provision(_kind, **options)
    @provisions << options
  end

  def synced_folder(here, there, **_options)
    @folders[there] = here
  end

  def provider(name)
    yield @providers[name] = Provider.new
  end
end

module Vagrant
  ALL = Machine.new

  def self.configure(_version)
    yield ALL
  end
end

load ARGV.fetch(0)
puts JSON.generate(
  machines: Vagrant::ALL.machines.map do |name, m|
    { name: name, hostname: m.hostname, networks: m.networks, provisions: m.provisions }
  end,
  folders: Vagrant::ALL.folders,
  virtualbox: Vagrant::ALL.providers[:virtualbox].customized
)
