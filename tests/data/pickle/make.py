# Files as torch.save writes them, made without torch: stand-in modules, Python's own pickle and zipfile.
import sys,types,pickle,zipfile,struct,collections,io,os
def mod(n):
    m=types.ModuleType(n); sys.modules[n]=m; return m
torch=mod('torch'); tu=mod('torch._utils'); pl=mod('pytorch_lightning'); plc=mod('pytorch_lightning.callbacks'); mc=mod('pytorch_lightning.callbacks.model_checkpoint')
def fn(m,name):
    f=types.FunctionType((lambda *a:None).__code__,{},name); f.__module__=m.__name__; f.__qualname__=name; setattr(m,name,f); return f
rt=fn(tu,'_rebuild_tensor_v2'); rp=fn(tu,'_rebuild_parameter')
def cl(m,name):
    c=type(name,(),{'__module__':m.__name__}); setattr(m,name,c); return c
types_={n:cl(torch,n) for n in ['FloatStorage','HalfStorage','LongStorage','BFloat16Storage']}
MC=cl(mc,'ModelCheckpoint')
class Storage:
    def __init__(s,t,key,data,count): s.t,s.key,s.data,s.count=t,key,data,count
class Red:
    def __init__(s,f,a): s.f,s.a=f,a
    def __reduce__(s): return (s.f,s.a)
class P(pickle.Pickler):
    def persistent_id(s,o):
        if isinstance(o,Storage): s.store[o.key]=o.data; return ('storage',types_[o.t],o.key,'cpu',o.count)
def save(path,obj,protocol=2,root='archive'):
    b=io.BytesIO(); p=P(b,protocol); p.store={}; p.dump(obj)
    with zipfile.ZipFile(path,'w',zipfile.ZIP_STORED) as z:
        def put(n,d):
            i=zipfile.ZipInfo(f'{root}/{n}',(1980,1,1,0,0,0)); z.writestr(i,d)
        put('data.pkl',b.getvalue())
        for k,d in p.store.items(): put(f'data/{k}',d)
        put('version',b'3\n')
def tensor(st,off,size,grad=False):
    stride=[];n=1
    for d in reversed(size): stride.insert(0,n); n*=d
    return Red(rt,(st,off,tuple(size),tuple(stride),grad,collections.OrderedDict()))
D=sys.argv[1]+'/'
f=Storage('FloatStorage','0',struct.pack('<6f',*[i+.5 for i in range(6)]),6)
h=Storage('HalfStorage','1',struct.pack('<4e',1,2,3,4),4)
l=Storage('LongStorage','2',struct.pack('<3q',0,-1,1<<40),3)
sd=collections.OrderedDict([('w',tensor(f,0,[2,3])),('half',tensor(h,0,[4])),('tail',tensor(h,2,[2,1])),('ids',tensor(l,0,[1,3])),('scalar',tensor(f,5,[])),('param',Red(rp,(tensor(f,1,[4]),True,collections.OrderedDict())))])
full={'epoch':7,'global_step':1<<33,'lr':1e-4,'neg':-3,'none':None,'state_dict':sd,'callbacks':{MC:{'monitor':'val','best':[1,2.5,True,(),{}]}},'names':['a','b',('c',)]}
save(D+'lightning.ckpt',full); save(D+'protocol4.pt',full,4,'model'); save(D+'bare.pt',sd)
save(D+'system.pt',{'w':Red(os.system,('touch /tmp/sdw-pickle-was-executed',))})
save(D+'eval.pt',Red(eval,('open("/tmp/sdw-pickle-was-executed","w")',)),4)
save(D+'columns.pt',{'w':Red(rt,(f,0,(2,3),(1,2),False,collections.OrderedDict()))})
save(D+'beyond.pt',{'w':tensor(f,1,[2,3])})
save(D+'lies.pt',{'w':tensor(Storage('FloatStorage','0',b'1234',1000),0,[10])})
save(D+'none.pt',{'epoch':1})
with zipfile.ZipFile(D+'deflated.pt','w',zipfile.ZIP_DEFLATED) as z: z.writestr('archive/data.pkl',b'}.'+b' '*99)
